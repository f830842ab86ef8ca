"""How the shards of a stage are worked off: one after the other in this process, or several at once by actors of Ray."""
