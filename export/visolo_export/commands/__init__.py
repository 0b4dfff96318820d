"""Commands of the export room, a file each. They parse, call the library, and print."""
