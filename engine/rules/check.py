"""Check: what is wrong with a workflow, before it is accepted. Floor 3.

* This storey checks what would break an order later: names, empty forks, sizes, what each instruction says of itself.
"""

from engine.base.ids import is_name, is_variable
from engine.model.workflow import Workflow
from engine.rules.parameters import type_fault
from engine.rules.state import RESERVED_NAMES
from engine.rules.statement import Statement


def workflow_faults(workflow: Workflow) -> list[str]:
    """Return a sentence for each fault, in the order of the text; empty when the workflow can run."""
    faults: list[str] = []
    if not is_name(workflow.name):
        faults.append(f"{workflow.name!r} can not be a workflow's name (letters, digits, _ . -)")
    if not is_name(workflow.agent):
        faults.append(f"{workflow.agent!r} can not be an agent's name (letters, digits, _ . -)")
    faults.extend(_parameter_faults(workflow))
    for position, step in workflow.instructions():
        place = "/".join(str(part) for part in position)
        if not isinstance(step, Statement):
            faults.append(f"step {place} is a {type(step).__name__}, which is no instruction")
            continue
        for branch, _ in step.blocks():
            if not is_name(branch):
                faults.append(f"step {place}: {branch!r} can not be a branch's name (letters, digits, _ . -)")
        faults.extend(f"step {place}: {fault}" for fault in step.faults())
    return faults


def _parameter_faults(workflow: Workflow) -> list[str]:
    faults: list[str] = []
    for name, parameter in workflow.parameters.items():
        if not is_variable(name):
            faults.append(f"{name!r} can not be a parameter's name (letters, digits, _)")
        if name in RESERVED_NAMES:
            faults.append(f"the parameter's name {name!r} is the engine's own; choose another")
        if parameter.required and parameter.final:
            faults.append(f"the final parameter {name!r} has no default")
        if parameter.required or parameter.default is None:
            continue
        fault = type_fault(parameter.type, parameter.default)
        if fault is not None:
            faults.append(f"the default of parameter {name!r} must be {parameter.type}: {fault}")
    return faults
