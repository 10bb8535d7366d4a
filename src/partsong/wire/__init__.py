"""Wire formats, one a file, in both directions and without sockets: providers and server share them."""
