"""Small networks with the layer names, types and traits of the repositories that the adapters know.

Written for the tests: nobody's code, and nobody's weights. The real networks were tried while the adapters were
made (docs/support.md); here stands what makes each of them recognisable, and hard.
"""
