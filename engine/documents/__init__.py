"""Documents of people: the strict loader with positions, the builder, and the JSON Schema.

Floor 5.
"""
