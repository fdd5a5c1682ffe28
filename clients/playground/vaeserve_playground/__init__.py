"""A page to look at a served model with: `vaeserve playground ADDRESS`.

It calls the server through the public client only. What it shows is made by pure functions
(`pictures`, `dimensions`, `markup`); `calls` turns one gesture of a visitor into calls of the
client and times them; `page` lays the widgets out and knows Gradio, as nothing else here does.
"""
