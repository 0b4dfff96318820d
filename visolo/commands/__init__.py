"""Commands of the runtime room, a file each. They parse, call the library, and print."""
