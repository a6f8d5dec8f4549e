package swarmd.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.EnumDescriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.ProtocolMessageEnum;
import com.google.protobuf.util.JsonFormat;
import java.util.Map;
import java.util.function.BiFunction;
import java.util.stream.IntStream;

/**
 * The script's JSON to messages, and messages to the script's JSON.
 *
 * <p>It is protobuf's own JSON (ids are texts there, too) but for two things: enum values come
 * without their prefix, and durations are numbers with _seconds at the end of their names.
 */
final class ScriptJson {
  private static final String SECONDS = "_seconds";

  private ScriptJson() {}

  /** Fills a message from those members of an object that have these names; all, without names. */
  static <B extends Message.Builder> B read(JsonObject values, B into, String... names) {
    JsonObject chosen = names.length == 0 ? values : new JsonObject();
    for (String name : names) {
      if (values.has(name)) {
        chosen.add(name, values.get(name));
      }
    }
    JsonElement json =
        translate(chosen, into.getDescriptorForType(), (type, name) -> prefix(type) + name);
    try {
      JsonFormat.parser().merge(json.toString(), into);
    } catch (InvalidProtocolBufferException surprise) {
      throw new IllegalArgumentException("no such request: " + json, surprise);
    }
    return into;
  }

  /** A message with all its fields. */
  static JsonObject write(Message message) {
    JsonFormat.Printer printer =
        JsonFormat.printer().preservingProtoFieldNames().alwaysPrintFieldsWithNoPresence();
    String json;
    try {
      json = printer.print(message);
    } catch (InvalidProtocolBufferException surprise) {
      throw new IllegalArgumentException("an answer that has no JSON: " + message, surprise);
    }
    JsonObject values = JsonParser.parseString(json).getAsJsonObject();
    return translate(values, message.getDescriptorForType(), ScriptJson::shortName);
  }

  /** An enum's value without its prefix. */
  static String shortName(ProtocolMessageEnum value) {
    return shortName(value.getDescriptorForType(), value.getValueDescriptor().getName());
  }

  /** Where a result is not what is wanted; empty when it is. */
  static String difference(JsonElement wanted, JsonElement got, String where) {
    if (wanted.isJsonObject() && got.isJsonObject()) {
      for (Map.Entry<String, JsonElement> entry : wanted.getAsJsonObject().entrySet()) {
        JsonElement value = got.getAsJsonObject().get(entry.getKey());
        String found =
            difference(
                entry.getValue(),
                value == null ? JsonNull.INSTANCE : value,
                where.isEmpty() ? entry.getKey() : where + "." + entry.getKey());
        if (!found.isEmpty()) {
          return found;
        }
      }
      return "";
    }
    if (wanted.isJsonArray() && got.isJsonArray()) {
      JsonArray a = wanted.getAsJsonArray();
      JsonArray b = got.getAsJsonArray();
      if (a.size() == b.size()) {
        return IntStream.range(0, a.size())
            .mapToObj(place -> difference(a.get(place), b.get(place), where + "[" + place + "]"))
            .filter(found -> !found.isEmpty())
            .findFirst()
            .orElse("");
      }
    }
    return wanted.equals(got) ? "" : where + " is " + got + ", not " + wanted;
  }

  private static JsonObject translate(
      JsonObject values, Descriptor type, BiFunction<EnumDescriptor, String, String> rename) {
    JsonObject translated = new JsonObject();
    for (Map.Entry<String, JsonElement> entry : values.entrySet()) {
      String name = entry.getKey();
      JsonElement value = entry.getValue();
      FieldDescriptor field = type.findFieldByName(name);
      if (field == null && name.endsWith(SECONDS)) {
        name = name.substring(0, name.length() - SECONDS.length());
        value = new JsonPrimitive(value.getAsBigDecimal().toPlainString() + "s");
      } else if (field != null && value.isJsonArray()) {
        JsonArray items = new JsonArray();
        value.getAsJsonArray().forEach(item -> items.add(translate(item, field, rename)));
        value = items;
      } else if (field != null) {
        value = translate(value, field, rename);
      }
      translated.add(name, value);
    }
    return translated;
  }

  private static JsonElement translate(
      JsonElement value, FieldDescriptor field, BiFunction<EnumDescriptor, String, String> rename) {
    return switch (field.getJavaType()) {
      case ENUM -> new JsonPrimitive(rename.apply(field.getEnumType(), value.getAsString()));
      case MESSAGE ->
          value.isJsonObject() && !field.isMapField()
              ? translate(value.getAsJsonObject(), field.getMessageType(), rename)
              : value;
      default -> value;
    };
  }

  private static String shortName(EnumDescriptor type, String name) {
    return name.substring(prefix(type).length());
  }

  /** TASK_STATUS_, for each enum's first value is PREFIX_UNSPECIFIED. */
  private static String prefix(EnumDescriptor type) {
    String first = type.getValues().get(0).getName();
    return first.substring(0, first.length() - "UNSPECIFIED".length());
  }
}
