"""``pixelproof demo``: the main job from beginning to end, on local stand-ins for the three ESPs."""
