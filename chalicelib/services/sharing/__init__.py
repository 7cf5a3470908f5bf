"""Who may see what, and how that changes: transfers, acceptance, protection, emergencies."""
