"""What a layer is: its options, its shapes, its parameters, its cost, and its computation over primitives."""
