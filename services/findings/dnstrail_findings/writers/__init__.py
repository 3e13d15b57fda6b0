"""The writers: each module writes lines to one kind of receiver."""
