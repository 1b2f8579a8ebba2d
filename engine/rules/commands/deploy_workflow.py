"""deploy_workflow: make a version of a workflow known; older versions stay beside it. Floor 3."""

from typing import ClassVar

import msgspec

from engine.base.limits import WORKFLOWS_MAX
from engine.base.problem import Problem, problem
from engine.model.event import Event, WorkflowDeployed
from engine.model.language import encode_leaves
from engine.model.workflow import Workflow
from engine.rules.check import workflow_faults
from engine.rules.controller_state import ControllerState
from engine.rules.operator_command import OperatorCommand

NoVersion = problem("NoVersion", "Workflow {workflow!r} was sent without a version; this is a mistake of the client.")
VersionExists = problem(
    "VersionExists",
    "Version {version!r} of workflow {workflow!r} is deployed already with another content; choose a new version.",
)
WorkflowFaulty = problem("WorkflowFaulty", "Workflow {workflow!r} can not run: {fault}.")
TooManyWorkflows = problem(
    "TooManyWorkflows", "The controller holds {count} versions of workflows, which is its limit."
)
WorkflowTooLarge = problem(
    "WorkflowTooLarge",
    "Workflow {workflow!r} takes {size_bytes} bytes; {size_bytes_max} is the most. Keep long scripts and lists in files"
    " and name those, or divide it into several workflows.",
)

WORKFLOW_BYTES_MAX = 4 << 20  # encoded: half of what a record holds, and every agent that needs it gets it whole


class DeployWorkflow(msgspec.Struct, OperatorCommand, frozen=True, array_like=True, tag="deploy_workflow"):
    """Deploy a version. The same version with the same content again makes it the newest and is harmless."""

    keyword: ClassVar[str] = "deploy_workflow"
    right: ClassVar[str] = "workflow.deploy"

    workflow: Workflow

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        workflow = self.workflow
        if not workflow.version:
            return NoVersion(workflow=workflow.name)
        known = state.workflows.get(workflow.id)
        if known is not None:
            if known != workflow:
                return VersionExists(workflow=workflow.name, version=workflow.version)
            return [] if state.newest[workflow.name] == workflow.id else [WorkflowDeployed(now_ms, known)]
        if len(state.workflows) >= WORKFLOWS_MAX:
            return TooManyWorkflows(count=len(state.workflows))
        if faults := workflow_faults(workflow):
            return WorkflowFaulty(workflow=workflow.name, fault="; ".join(faults[:5]))
        size_bytes = len(encode_leaves(workflow))
        if size_bytes > WORKFLOW_BYTES_MAX:
            return WorkflowTooLarge(workflow=workflow.name, size_bytes=size_bytes, size_bytes_max=WORKFLOW_BYTES_MAX)
        return [WorkflowDeployed(now_ms, workflow)]
