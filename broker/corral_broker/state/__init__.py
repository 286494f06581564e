"""What the broker knows: guests, commands under way, subscriptions, counters, time. It decides nothing."""
