"""Wire formats, one a file or a folder, in both directions and without sockets: providers and server share them."""
