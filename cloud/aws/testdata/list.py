"""Lists an account by boto3: each thing with its tags and what else there is to know, by id, as JSON."""
import json
import sys

import boto3

options = {"endpoint_url": sys.argv[1], "region_name": sys.argv[2], "aws_access_key_id": "test", "aws_secret_access_key": "test"}
elb, ec2 = boto3.client("elbv2", **options), boto3.client("ec2", **options)


def pages(client, operation, key, **arguments):
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page[key]


def pairs(listed):
    return {p["Key"]: p["Value"] for p in listed}


def tags(arn):
    return pairs(elb.describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"])


found = {}
for b in pages(elb, "describe_load_balancers", "LoadBalancers"):
    arn = b["LoadBalancerArn"]
    found[arn] = {"kind": "LoadBalancer", "tags": tags(arn), "host": b["DNSName"], "scheme": b["Scheme"], "state": b["State"]["Code"],
                  "made": b["CreatedTime"].year > 1999, "zones": len(b["AvailabilityZones"]), "groups": b["SecurityGroups"],
                  "attributes": pairs(elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"])}
    for l in pages(elb, "describe_listeners", "Listeners", LoadBalancerArn=arn):
        found[l["ListenerArn"]] = {"kind": "Listener", "tags": tags(l["ListenerArn"]), "protocol": l["Protocol"], "port": l["Port"], "of": l["LoadBalancerArn"],
                                   "to": l["DefaultActions"][0]["TargetGroupArn"]}
for g in pages(elb, "describe_target_groups", "TargetGroups"):
    arn = g["TargetGroupArn"]
    health = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    found[arn] = {"kind": "TargetGroup", "tags": tags(arn), "protocol": g["Protocol"], "checked": g["HealthCheckIntervalSeconds"],
                  "targets": sorted("%s:%d" % (t["Target"]["Id"], t["Target"]["Port"]) for t in health),
                  "attributes": pairs(elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"])}
for g in pages(ec2, "describe_security_groups", "SecurityGroups"):
    found[g["GroupId"]] = {"kind": "SecurityGroup", "tags": pairs(g["Tags"]), "rules": sorted(
        "%s %d-%d %s" % (p["IpProtocol"], p["FromPort"], p["ToPort"], r["CidrIp"]) for p in g["IpPermissions"] for r in p["IpRanges"])}
json.dump(found, sys.stdout)
