"""The pure core: frozen values and the functions that turn one into the other. No module here performs I/O."""
