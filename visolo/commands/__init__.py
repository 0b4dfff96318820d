"""The commands, a file each. They parse options, call the library, and print."""
