"""Prints every event that may be believed: python consumer.py HOST PORT < devices.jwks"""

import json
import sys

import jwt
import paho.mqtt.client as mqtt


def verified(topic, token, keys):
    header = jwt.get_unverified_header(token)
    key = keys[header["kid"]]
    names = {"issuer": f"urn:hadir:device:{key['device']}", "audience": f"urn:hadir:site:{key['site']}"}
    algorithm = {"EC": "ES256", "OKP": "EdDSA"}[key["kty"]]
    claims = jwt.decode(token, jwt.PyJWK(key), [algorithm], {"verify_iat": False}, **names)
    ((kind, event),) = claims["events"].items()
    if topic != f"hadir/v1/{key['device']}/up/event":
        raise ValueError("another board's topic")
    if header != {"alg": algorithm, "kid": key["kid"], "typ": "secevent+jwt"} or key["revoked_at"]:
        raise ValueError("not the header of an event, or a key that was revoked")
    speaks = (key["first_seq"] or 1) <= event["seq"] <= (key["last_seq"] or event["seq"])
    if not speaks or key["chain"] not in (None, event["chain"]):
        raise ValueError("this key does not speak for this place")
    return key["device"], event["chain"], event["seq"], kind, claims.get("toe"), claims.get("sub_id")


def on_message(client, keys, message):
    try:
        print(*verified(message.topic, message.payload, keys), flush=True)
    except (jwt.PyJWTError, AttributeError, LookupError, TypeError, ValueError) as error:
        print("refused", message.topic, repr(error), flush=True)
    client.ack(message.mid, message.qos)


if __name__ == "__main__":
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, manual_ack=True)
    client.user_data_set({key["kid"]: key for key in json.load(sys.stdin)["keys"]})
    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe("hadir/v1/+/up/event", qos=1)
    client.connect(sys.argv[1], int(sys.argv[2]))
    client.loop_forever()
