"""Groups of maps whose generators are learned themselves."""
