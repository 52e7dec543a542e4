"""The rules that every task must satisfy, checked on small trained SAEs."""
