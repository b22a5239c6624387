"""All settings of an audit: frozen pydantic models, each field with its unit, source and role."""
