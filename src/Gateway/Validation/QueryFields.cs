using System.Buffers.Text;
using System.Globalization;
using System.Text;
using System.Text.Json;
using GpuTasks.Gateway.Http;

namespace GpuTasks.Gateway.Validation;

/// <summary>Query parameters; empty ones count as absent, as clients send them that way.</summary>
internal sealed class QueryFields(IQueryCollection query)
{
    public string? Text(string name, int maxLength = 256)
    {
        var values = query[name];
        if (values.Count > 1)
        {
            throw ApiErrors.InvalidArgument($"{name}: must be given once only.");
        }

        var text = values.ToString();
        return text.Length == 0 ? null
            : text.Length <= maxLength && !text.Contains('\0', StringComparison.Ordinal) ? text
            : throw ApiErrors.InvalidArgument($"{name}: must have at most {maxLength} characters and no NUL.");
    }

    public long? Integer(string name, long min, long max) => Text(name) is not { } text ? null
        : long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value) && value >= min && value <= max ? value
        : throw ApiErrors.InvalidArgument($"{name}: must be an integer from {min} to {max}, was '{Names.Shown(text)}'.");

    public bool? Flag(string name) => Text(name) switch
    {
        null => null,
        var text when text.Equals("true", StringComparison.OrdinalIgnoreCase) => true,
        var text when text.Equals("false", StringComparison.OrdinalIgnoreCase) => false,
        var text => throw ApiErrors.InvalidArgument($"{name}: must be true or false, was '{Names.Shown(text)}'."),
    };

    /// <summary>Page size: 1 to 100.</summary>
    public int Limit(int ifAbsent) => (int)(Integer("limit", 1, 100) ?? ifAbsent);

    /// <summary>Function and part after which the next page starts, or nulls for the first page.</summary>
    public (string? Function, string? Part) PageAfterPart(string parameter = "nextToken") => Text(parameter, 1024) is not { } token ? (null, null)
        : PageToken.Read(token)?.Split('/', 2) is [var name, var part] && Names.IsName(name) ? (name, part)
        : throw ApiErrors.InvalidArgument($"{parameter}: must be one that an earlier page gave.");

    /// <summary>Name after which the next page of functions starts, or null for the first page.</summary>
    public string? PageAfter() => After(Names.IsName);

    /// <summary>Name after which the next page starts, or null for the first page.</summary>
    /// <param name="fits">What such a name looks like.</param>
    /// <param name="parameter">Its parameter.</param>
    public string? After(Func<string, bool> fits, string parameter = "nextToken") => Text(parameter) is not { } token ? null
        : PageToken.Read(token) is { } name && fits(name) ? name
        : throw ApiErrors.InvalidArgument($"{parameter}: must be one that an earlier page gave.");

    /// <summary>A parameter that holds a JSON array of strings.</summary>
    public IReadOnlyList<string>? Texts(string name, int maxItems, int maxLength = 4096)
    {
        if (Text(name, maxLength) is not { } text)
        {
            return null;
        }

        try
        {
            using var json = JsonDocument.Parse(text);
            if (json.RootElement.ValueKind == JsonValueKind.Array && json.RootElement.GetArrayLength() <= maxItems
                && json.RootElement.EnumerateArray().All(item => item.ValueKind == JsonValueKind.String))
            {
                return [.. json.RootElement.EnumerateArray().Select(item => item.GetString()!)];
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // Told below.
        }

        throw ApiErrors.InvalidArgument($"{name}: must be a JSON array of at most {maxItems} strings.");
    }
}

/// <summary>Page tokens of lists by name; opaque to callers.</summary>
internal static class PageToken
{
    public static string Make(string name) => Base64Url.EncodeToString(Encoding.UTF8.GetBytes(name));

    public static string? Read(string token)
    {
        try
        {
            return Encoding.UTF8.GetString(Base64Url.DecodeFromChars(token));
        }
        catch (FormatException)
        {
            return null;
        }
    }
}
