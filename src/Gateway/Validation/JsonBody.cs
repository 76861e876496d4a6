using System.Text.Json;
using GpuTasks.Gateway.Http;

namespace GpuTasks.Gateway.Validation;

/// <summary>Turns a request body into a JSON object whose every text can be read.</summary>
internal static class JsonBody
{
    private static readonly JsonDocumentOptions Options = new() { AllowDuplicateProperties = false, MaxDepth = 32 };

    /// <exception cref="ApiException">It is no JSON object, or holds text that cannot be stored.</exception>
    public static JsonDocument Parse(ReadOnlyMemory<byte> body)
    {
        if (body.IsEmpty)
        {
            throw ApiErrors.InvalidArgument("body: must be a JSON object, was empty.");
        }

        JsonDocument? document = null;
        try
        {
            document = JsonDocument.Parse(body, Options);
            if (document.RootElement.ValueKind != JsonValueKind.Object)
            {
                throw ApiErrors.InvalidArgument("body: must be a JSON object.");
            }

            CheckTexts(document.RootElement);
            return document;
        }
        catch (JsonException e)
        {
            throw ApiErrors.InvalidArgument($"body: is not valid JSON: {e.Message}");
        }
        catch (InvalidOperationException)
        {
            document?.Dispose();
            throw ApiErrors.InvalidArgument("body: holds text that is not valid Unicode.");
        }
        catch (ApiException)
        {
            document?.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Reads every name and text once, so that later readers cannot stumble over broken Unicode, and refuses NUL,
    /// which neither environments of processes nor databases can hold.
    /// </summary>
    private static void CheckTexts(JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.Object:
                foreach (var property in element.EnumerateObject())
                {
                    CheckText(property.Name);
                    CheckTexts(property.Value);
                }

                break;
            case JsonValueKind.Array:
                foreach (var item in element.EnumerateArray())
                {
                    CheckTexts(item);
                }

                break;
            case JsonValueKind.String:
                CheckText(element.GetString()!);
                break;
        }
    }

    private static void CheckText(string text)
    {
        if (text.Contains('\0', StringComparison.Ordinal))
        {
            throw ApiErrors.InvalidArgument("body: text must not contain the character NUL.");
        }
    }
}
