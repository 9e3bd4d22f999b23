"""A real server that speaks S3 (moto), in which signatures and permissions are verified, and keys for it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections import deque
from typing import Any

import boto3
from botocore.config import Config

from outhaul.wire import Destination

REGION = "us-east-1"
WRITE = ("s3:PutObject", "s3:AbortMultipartUpload")
_ANYBODY = {"aws_access_key_id": "anybody", "aws_secret_access_key": "anybody"}


class S3:
    """The server as a process of its own, on a free port; `url` is its endpoint.

    With `signed` it takes requests only from users that were made, as Amazon does; without, from anybody.
    """

    def __init__(self, *, signed: bool = True) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = self._listening()
        self._keys = _ANYBODY
        self.admin = self._client("s3")
        if signed:
            keys = self.keys(("*",), "*")
            begin = urllib.request.Request(
                f"{self.url}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}
            )
            urllib.request.urlopen(begin, timeout=30).close()
            self._keys = {
                "aws_access_key_id": keys["access_key_id"],
                "aws_secret_access_key": keys["secret_access_key"],
            }
            self.admin = self._client("s3")

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)

    def bucket(self, name: str, allowed: tuple[str, ...] = WRITE) -> Destination:
        """The destination of the bucket `name`, made if missing, with keys that allow `allowed` there."""
        self.admin.create_bucket(Bucket=name)
        return self.destination(name, **self.keys(allowed, f"arn:aws:s3:::{name}/*"))

    def destination(self, name: str, **members: Any) -> Destination:
        return Destination(url=f"s3://{name}", endpoint=self.url, **members)

    def keys(self, allowed: tuple[str, ...], resource: str) -> dict[str, str]:
        """Keys of a new user, as members of a destination."""
        iam, name = self._client("iam"), f"user-{len(self._client('iam').list_users()['Users'])}"
        iam.create_user(UserName=name)
        policy = _policy(allowed, resource)
        iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=policy)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return {"access_key_id": made["AccessKeyId"], "secret_access_key": made["SecretAccessKey"]}

    def revoke(self, destination: Destination) -> None:
        """Make the keys of a destination unknown."""
        iam = self._client("iam")
        for user in iam.list_users()["Users"]:
            for key in iam.list_access_keys(UserName=user["UserName"])["AccessKeyMetadata"]:
                if key["AccessKeyId"] == destination.access_key_id:
                    iam.delete_access_key(UserName=user["UserName"], AccessKeyId=key["AccessKeyId"])

    def temporary(self, name: str) -> Destination:
        """The destination of a bucket, with keys that end by themselves."""
        role = self._client("iam").create_role(
            RoleName=f"role-{name}", AssumeRolePolicyDocument=_policy(("sts:AssumeRole",), "*")
        )["Role"]
        self._client("iam").put_role_policy(
            RoleName=f"role-{name}", PolicyName="only", PolicyDocument=_policy(WRITE, "*")
        )
        given = self._client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="test")["Credentials"]
        return self.destination(
            name,
            access_key_id=given["AccessKeyId"],
            secret_access_key=given["SecretAccessKey"],
            session_token=given["SessionToken"],
        )

    def objects(self, name: str) -> dict[str, bytes]:
        """Every object of the bucket that can be seen, by name."""
        found = self.admin.list_objects_v2(Bucket=name).get("Contents", [])
        return {
            each["Key"]: self.admin.get_object(Bucket=name, Key=each["Key"])["Body"].read() for each in found
        }

    def unfinished(self, name: str) -> list[str]:
        """The names of the uploads that were begun and neither finished nor given up."""
        return [each["Key"] for each in self.admin.list_multipart_uploads(Bucket=name).get("Uploads", [])]

    def _client(self, service: str) -> Any:
        patience = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"})
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, config=patience, **self._keys)

    def _listening(self) -> str:
        assert self._process.stderr is not None
        seen = []
        for line in self._process.stderr:
            seen.append(line)
            if found := re.search(r"Running on (http://\S+)", line):
                # It goes on telling of every request, and would wait for somebody to listen.
                threading.Thread(target=deque, args=(self._process.stderr, 0), daemon=True).start()
                return found[1]
        raise RuntimeError(f"The S3 server did not start:\n{''.join(seen)}")


def _policy(allowed: tuple[str, ...], resource: str) -> str:
    statement = {"Effect": "Allow", "Action": list(allowed), "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
