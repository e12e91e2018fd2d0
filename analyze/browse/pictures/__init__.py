"""The pictures of a site: which ones its size allows, where they come from, and sprite sheets."""
