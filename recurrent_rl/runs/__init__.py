"""A run and its folder: trained, stopped, resumed, watched, evaluated."""
