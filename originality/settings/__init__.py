"""Every knob of an audit: frozen pydantic models, each field with its unit and source."""
