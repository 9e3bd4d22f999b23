"""Every check of the old API, and what proves it: one table, held against the tests and against the docs.

Campaigns, checks 20 to 47, are not there yet.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import test_azme
import test_azme_devices
import test_azme_exports
import test_azme_imports

MODULES = {
    module.__name__: module for module in (test_azme, test_azme_devices, test_azme_exports, test_azme_imports)
}
CHECKS = {
    1: ("test_azme.a_secret_gives_a_token",),
    2: ("test_azme.a_get_with_a_body_gives_a_token_too",),
    3: ("test_azme.a_wrong_secret_is_an_invalid_client",),
    4: ("test_azme.a_refresh_is_an_invalid_grant",),
    5: ("test_azme.an_unknown_tenant_is_an_invalid_request",),
    6: ("test_azme.the_npm_login_works",),
    7: ("test_azme.one_token_serves_many_calls",),
    8: ("test_azme.without_a_token_it_is_401",),
    9: ("test_azme.each_bad_token_has_its_code",),
    10: ("test_azme.the_npm_client_sees_401_once",),
    11: ("test_azme.the_api_version_is_required",),
    12: ("test_azme.paths_match_in_any_case",),
    13: ("test_azme.it_is_always_json",),
    14: ("test_azme.what_is_not_there_is_404",),
    15: ("test_azme.other_methods_are_405",),
    16: ("test_azme.the_npm_client_lists_app_collections",),
    17: ("test_azme.the_npm_client_asks_whether_a_name_is_free",),
    18: ("test_azme.the_npm_client_lists_apps",),
    19: ("test_azme.the_npm_client_lists_platforms",),
    48: ("test_azme_devices.a_list_goes_on_by_device_id",),
    49: ("test_azme_devices.a_page_has_a_hundred_devices_at_most",),
    50: ("test_azme_devices.a_selection_leaves_out_devices_without_it",),
    51: ("test_azme_devices.a_filter_is_met_by_ids_and_by_each_property",),
    52: ("test_azme_devices.a_filter_of_another_grammar_is_refused",),
    53: ("test_azme_devices.a_device_shows_all_that_is_known",),
    54: ("test_azme_devices.what_is_unknown_is_not_found",),
    55: ("test_azme_devices.a_tag_is_set_and_an_unknown_device_named",),
    56: ("test_azme_devices.a_null_removes_a_tag_where_that_is_asked",),
    57: ("test_azme_devices.a_user_is_found_and_tagged_by_the_userid",),
    58: ("test_azme_devices.a_bad_tag_is_refused_with_all_others",),
    59: ("test_azme_devices.over_a_thousand_ids_are_too_many",),
    60: ("test_azme.the_npm_client_asks_for_all_ten",),
    61: ("test_azme.a_create_says_where_to_look",),
    62: ("test_azme.a_wrong_export_is_400_and_says_which_member",),
    63: ("test_azme.other_spellings_of_an_export_are_taken",),
    64: ("test_azme_exports.an_export_reaches_succeeded_and_its_file_is_there",),
    65: ("test_azme_exports.an_unwritable_container_fails_the_task_not_the_request",),
    66: ("test_azme.the_npm_client_pages_and_sorts",),
    67: ("test_azme.a_list_has_limits",),
    68: ("test_azme_exports.write_and_list_are_enough",),
    69: ("test_azme_exports.json_and_csv_say_the_same",),
    70: ("test_azme_exports.a_day_is_the_whole_day_and_no_more",),
    71: ("test_azme_imports.an_import_is_queued_and_says_where_to_look",),
    72: ("test_azme_imports.an_import_of_nothing_is_refused",),
    73: ("test_azme_imports.imports_are_shown_and_listed",),
    74: ("test_azme_imports.tags_of_a_file_are_on_the_devices",),
    75: (
        "test_azme.every_list_is_under_value",
        "test_azme_devices.devices_are_under_value",
        "test_azme_imports.imports_are_under_value",
    ),
    76: (
        "test_azme.nothing_permanent_is_a_5xx",
        "test_azme_imports.what_cannot_be_read_fails_the_task_not_the_request",
    ),
    77: (
        "test_azme.links_use_the_public_base",
        "test_azme.test_a_public_url_with_a_prefix",
        "test_azme_devices.the_link_starts_with_the_public_base",
        "test_azme_imports.links_of_imports_start_with_the_public_base",
    ),
}
"""By number: the functions entered under it, and tests of their own, which say so in their first line."""
_OWN = re.compile(r"Check (\d+)\b")


def entered():
    """What the modules themselves say that they prove."""
    found = {}
    for name, module in MODULES.items():
        for number, function in module.check.items():
            found.setdefault(number, set()).add(f"{name}.{function.__name__}")
        for test, function in vars(module).items():
            says = _OWN.match(getattr(function, "__doc__", None) or "") if test.startswith("test_") else None
            if says:
                found.setdefault(int(says[1]), set()).add(f"{name}.{test}")
    return found


def test_every_check_is_proven():
    assert sorted(CHECKS) == [*range(1, 20), *range(48, 78)]
    assert {number: set(names) for number, names in CHECKS.items()} == entered()


def test_nothing_is_named_twice():
    names = [name for proofs in CHECKS.values() for name in proofs]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("module", MODULES)
def test_what_is_entered_is_run(module):
    [mark] = [one for one in MODULES[module].test_check.pytestmark if one.name == "parametrize"]
    assert mark.args[1] == sorted(MODULES[module].check)


def test_the_page_lists_the_same():
    page = (Path(__file__).parent.parent / "docs" / "old-api.md").read_text()
    documented = re.findall(r"^\| (\d+) \| (?:raw|npm|both) \|", page, re.MULTILINE)
    assert [int(number) for number in documented] == sorted(CHECKS)
