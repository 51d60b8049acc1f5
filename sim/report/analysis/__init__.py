"""What a report says: frames and figures, nothing drawn."""
