using System.Text.Json;

namespace GpuTasks.Echo;

/// <summary>The event as a JSON object; anything else is an object without members, which asks for an echo.</summary>
internal readonly struct Ask(JsonElement? root)
{
    internal static Ask Parse(byte[] body)
    {
        try
        {
            var reader = new Utf8JsonReader(body);
            return JsonElement.TryParseValue(ref reader, out var root) && root is { ValueKind: JsonValueKind.Object } ? new(root) : default;
        }
        catch (JsonException)
        {
            return default;
        }
    }

    internal string Text(string name, string otherwise) =>
        root is { } o && o.TryGetProperty(name, out var value) ? value.ToString() : otherwise;

    internal double Number(string name, double otherwise) =>
        root is { } o && o.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : otherwise;
}
