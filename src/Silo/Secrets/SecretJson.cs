using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using GpuTasks.Security;

namespace GpuTasks.Secrets;

/// <summary>Encrypts the properties of JSON documents that are marked <see cref="SecretAttribute"/>.</summary>
internal static class SecretJson
{
    /// <summary>Changes how a type is written and read. Without a protector everything stays in the clear.</summary>
    public static void Encrypt(JsonTypeInfo type, SecretProtector? secrets)
    {
        if (type.Kind != JsonTypeInfoKind.Object || secrets is null)
        {
            return;
        }

        foreach (var property in type.Properties.Where(property => property.AttributeProvider?.IsDefined(typeof(SecretAttribute), inherit: true) == true))
        {
            property.CustomConverter = property.PropertyType == typeof(string) ? new TextConverter(secrets)
                : property.PropertyType == typeof(IReadOnlyDictionary<string, string>) ? new MapConverter(secrets)
                : throw new NotSupportedException($"{type.Type.Name}.{property.Name}: only texts and dictionaries of texts can be secret.");
        }
    }

    private sealed class TextConverter(SecretProtector secrets) : JsonConverter<string>
    {
        public override string? Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            reader.GetString() is { } text ? secrets.Unprotect(text) : null;

        public override void Write(Utf8JsonWriter writer, string value, JsonSerializerOptions options) => writer.WriteStringValue(secrets.Protect(value));
    }

    private sealed class MapConverter(SecretProtector secrets) : JsonConverter<IReadOnlyDictionary<string, string>>
    {
        public override IReadOnlyDictionary<string, string> Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            JsonSerializer.Deserialize<Dictionary<string, string>>(ref reader, options)!
                .ToDictionary(pair => pair.Key, pair => secrets.Unprotect(pair.Value), StringComparer.Ordinal);

        public override void Write(Utf8JsonWriter writer, IReadOnlyDictionary<string, string> value, JsonSerializerOptions options)
        {
            writer.WriteStartObject();
            foreach (var (name, text) in value)
            {
                writer.WriteString(name, secrets.Protect(text));
            }

            writer.WriteEndObject();
        }
    }
}
