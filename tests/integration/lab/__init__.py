"""The virtual test host: build.sh makes its image, vm.py runs it, domains.py handles the guests inside it."""
