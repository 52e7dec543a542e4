"""How the user sets a task's options, for messages."""


def setting(task: str, option: str, value: str) -> str:
    """What to type to set an option: `--set "task_options.tpp.datasets=[a, b]"`."""
    return f'--set "task_options.{task}.{option}={value}"'
