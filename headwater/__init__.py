"""The command line `headwater`."""
