"""A translation server: LibreTranslate's API over our models, with batches made across requests."""
