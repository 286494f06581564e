"""The guest's live state: containers and processes, who waits for them, what they wrote. It knows no broker."""
