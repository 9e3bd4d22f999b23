"""The JSON of the old API, under its own model names where it has them. Null and absent are the same."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

Text = Annotated[str, Meta(min_length=1)]
Description = Annotated[str, Meta(max_length=4096)]
CampaignId = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class ExportTaskParameter(Struct, kw_only=True, rename="camel"):
    """What every export asks for; members that it does not know (such as `exportOptions`) are let pass."""

    container_url: Text
    export_format: Text
    description: Description | None = None


class DateRangeExportTaskParameter(ExportTaskParameter, kw_only=True, rename="camel"):
    """Both days are in the range."""

    start_date: Text
    end_date: Text


class FeedbackByDateRangeParameter(ExportTaskParameter, kw_only=True, rename="camel"):
    campaign_type: Text
    campaign_window_start: Text
    campaign_window_end: Text


class FeedbackByCampaignParameter(ExportTaskParameter, kw_only=True, rename="camel"):
    campaign_type: Text
    campaign_ids: Annotated[list[CampaignId], Meta(min_length=1)]


class ExportTaskResult(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """An export task. The container's URL is not in it: it holds a secret."""

    id: str
    state: str
    date_created: str
    export_type: str
    description: str | None = None
    date_completed: str | None = None
    error_details: str | None = None


class ExportTaskListResult(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    value: list[ExportTaskResult]
    next_link: str | None = None


class ImportTask(Struct, kw_only=True, rename="camel"):
    """An import asked for; the URL is of one file, with a token that may read it."""

    storage_url: Text


class ImportTaskResult(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """An import task. The URL is shown without its token, which is a secret."""

    id: str
    state: str
    storage_url: str
    date_created: str
    date_completed: str | None = None
    error_details: str | None = None


class ImportTaskListResult(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    value: list[ImportTaskResult]
    next_link: str | None = None


class DeviceTagsParameters(Struct, kw_only=True, rename="camel"):
    """Tags by device or user; what is in them is checked one by one, so that an error can name it."""

    tags: dict[str, Any]
    delete_on_null: bool = False


class DeviceTagsResult(Struct, kw_only=True, rename="camel"):
    invalid_ids: list[str]


class DeviceQueryResult(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """A device as lists show it: without `info` and `location`, and only the properties that were asked for."""

    device_id: str
    meta: dict[str, int | bool] | None = None
    app_info: dict[str, str] | None = None


class DevicesQueryResult(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    value: list[DeviceQueryResult]
    next_link: str | None = None


class Device(Struct, kw_only=True, rename="camel"):
    """A device on its own; what is not known of it is left out of the objects, which are always there."""

    device_id: str
    meta: dict[str, int | bool]
    info: dict[str, str | int]
    location: dict[str, str]
    app_info: dict[str, str]


class AppCollectionNameAvailability(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """Asked with a name, answered with the rest."""

    name: Text
    available: bool | None = None
    unavailability_reason: str | None = None


class Resource(Struct, kw_only=True, rename="camel"):
    """The envelope of everything that has an address; clients flatten `properties` onto it."""

    id: str
    name: str
    type: str
    location: str
    properties: dict[str, str]


class ResourceListResult(Struct):
    value: list[Resource]


class Subscription(Struct, rename="camel"):
    id: str
    subscription_id: str
    display_name: str
    state: str


class SubscriptionListResult(Struct):
    value: list[Subscription]


class Tenant(Struct, rename="camel"):
    id: str
    tenant_id: str


class TenantListResult(Struct):
    value: list[Tenant]


class SupportedPlatformsListResult(Struct):
    """The one list of the API that is not under `value`."""

    platforms: list[str]


class TokenResponse(Struct, kw_only=True):
    """A token; numbers are text, as the directory it stands in for writes them. Times are seconds since 1970.

    `resource` repeats what was asked for byte by byte: clients look the token up by it.
    """

    token_type: str
    expires_in: str
    expires_on: str
    not_before: str
    resource: str
    access_token: str


class TokenError(Struct, kw_only=True):
    error: str
    error_description: str
    timestamp: str
    trace_id: str
    correlation_id: str
