"""Wire formats: JSON and server-sent events to and from the values of `model`. No code here opens a socket.

`chat`, `messages` and `responses` hold one API each; the files beside them hold what several APIs need. Providers
serialize requests and parse answers. The server parses requests and serializes answers.
"""
