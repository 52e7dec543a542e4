"""Options that are in a key only if they are set, so that a new option changes no earlier key."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer


class OnlyIfSet(BaseModel):
    """A task with options that its description leaves out unless they are set."""

    only_if_set: ClassVar[tuple[str, ...]] = ()
    """Options that stand for their default where the description does not mention them."""

    @model_serializer(mode="wrap")
    def _without_unset(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = whole(self)
        return {name: value for name, value in dumped.items() if value or name not in self.only_if_set}
