"""One file per command or family; each is imported when its command is named."""
