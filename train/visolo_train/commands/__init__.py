"""Commands of the training room, a file each. They parse, call the library, and print."""
