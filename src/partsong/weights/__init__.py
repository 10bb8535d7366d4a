"""The catalogue of local models, and the code that fetches and checks their files."""
