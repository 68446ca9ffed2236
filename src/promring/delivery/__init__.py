"""How a slice reaches its scraper. Every kind writes a slice whole or not at all."""
