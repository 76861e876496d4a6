using System.Text.Json;
using GpuTasks.Gateway.Http;

namespace GpuTasks.Gateway.Validation;

/// <summary>One line of a batch: one task.</summary>
/// <param name="Id">Its id, or null if it gives none.</param>
/// <param name="Payload">Its event.</param>
/// <param name="Priority">Class 0 to 9.</param>
internal sealed record BatchLine(string? Id, byte[] Payload, int Priority)
{
    /// <summary>Reads a line in one pass; thousands of them come at once.</summary>
    /// <param name="line">The line without its end.</param>
    /// <param name="maxPayload">Longest event in bytes.</param>
    /// <param name="id">The id as far as it was read, so that a refusal can name its task.</param>
    /// <exception cref="ApiException">It is not a task.</exception>
    public static BatchLine Parse(ReadOnlySpan<byte> line, int maxPayload, out string? id)
    {
        id = null;
        try
        {
            return ParseObject(line, maxPayload, ref id);
        }
        catch (JsonException)
        {
            throw ApiErrors.InvalidArgument("line: is not one JSON object.");
        }
        catch (InvalidOperationException)
        {
            throw ApiErrors.InvalidArgument("line: holds text that is not valid Unicode.");
        }
    }

    private static BatchLine ParseObject(ReadOnlySpan<byte> line, int maxPayload, ref string? id)
    {
        var reader = new Utf8JsonReader(line);
        byte[]? payload = null;
        int? priority = null;
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
        {
            throw new JsonException();
        }

        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var name = reader.GetString()!;
            reader.Read();
            switch (name)
            {
                case "id" when id is null:
                    var text = Need(JsonTokenType.String, reader.TokenType, "id: must be text.") ? reader.GetString()! : "";
                    id = Names.CheckTaskId("id", text);
                    break;
                case "payload" when payload is null:
                    Need(JsonTokenType.String, reader.TokenType, "payload: must be text; give bytes as payloadBase64.");
                    payload = Text(ref reader);
                    break;
                case "payloadBase64" when payload is null:
                    Need(JsonTokenType.String, reader.TokenType, "payloadBase64: must be text.");
                    payload = reader.TryGetBytesFromBase64(out var bytes) ? bytes : throw ApiErrors.InvalidArgument("payloadBase64: is not valid base64.");
                    break;
                case "priority" when priority is null:
                    priority = reader.TokenType == JsonTokenType.Number && reader.TryGetInt32(out var number) && number is >= 0 and <= 9
                        ? number
                        : throw ApiErrors.InvalidArgument("priority: must be a whole number from 0 to 9.");
                    break;
                default:
                    throw ApiErrors.InvalidArgument(
                        $"{Names.Shown(name)}: is unknown or given twice; a line has id, payload or payloadBase64, and priority, each once at most.");
            }
        }

        if (reader.TokenType != JsonTokenType.EndObject || reader.Read())
        {
            throw new JsonException();
        }

        payload ??= [];
        return payload.Length <= maxPayload
            ? new BatchLine(id, payload, priority ?? 0)
            : throw new ApiException(400, "EntityTooLarge", $"payload: must have at most {maxPayload} bytes, had {payload.Length}.");
    }

    private static byte[] Text(ref Utf8JsonReader reader)
    {
        var text = new byte[reader.ValueSpan.Length];
        var length = reader.CopyString(text);
        return length == text.Length ? text : text[..length];
    }

    private static bool Need(JsonTokenType wanted, JsonTokenType found, string message) =>
        wanted == found ? true : throw ApiErrors.InvalidArgument(message);
}
