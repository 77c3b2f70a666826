"""Heads on disk and on the Hub: their config, their files, their card, how a loop is written into one."""
