"""The layouts of files that abench reads SAEs from: one module each, found by being here."""
