"""The Ray actor: one scorer, its images fetched ahead, its records committed."""
