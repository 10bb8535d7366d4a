"""Every fault at every place of a mixture, over real HTTP on loopback, in time that jumps."""
