"""From two networks to a loop: the stages of ``fbwrap.attach``, and loops from saved heads.

1. ``networks``: what was passed is looked through and refused early.
2. ``observe``: each network runs once on the example; what it did is recorded.
3. ``resolve``: what the user wrote in ``layers=`` becomes connections of real modules and shapes.
4. ``planning``: the feedback modules are made, the schedule is proven, the cost is counted.
5. ``build``: the loop.
"""
