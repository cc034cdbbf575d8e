"""The version of the library and of the program, read by the build as well."""

__version__ = "0.1.0"
