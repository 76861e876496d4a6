using System.Globalization;
using System.Text.Json;
using GpuTasks.Gateway.Http;

namespace GpuTasks.Gateway.Validation;

/// <summary>What is wrong with a request's fields; all of it is told at once.</summary>
internal sealed class Faults
{
    private const int MostTold = 20;
    private readonly List<string> texts = [];

    public void Add(string field, string rule)
    {
        var text = $"{field}: {rule}";
        if (texts.Count < MostTold && !texts.Contains(text))
        {
            texts.Add(text);
        }
    }

    /// <exception cref="ApiException">There is at least one.</exception>
    public void Throw()
    {
        if (texts.Count > 0)
        {
            throw ApiErrors.InvalidArgument(string.Join("; ", texts) + ".");
        }
    }
}

/// <summary>
/// Reads the fields of one JSON object. A field that is absent or null gives null; one of a wrong type or out of range
/// gives null too and adds a fault that names the field with its path, and what is allowed.
/// </summary>
internal sealed class JsonFields(JsonElement element, Faults faults, string path = "")
{
    public Faults Faults => faults;

    /// <summary>The field's name with its path, for faults.</summary>
    public string PathOf(string name) => path + name;

    /// <summary>True for an object without fields, which callers send for "none".</summary>
    public bool IsEmpty => !element.EnumerateObject().Any();

    public bool Has(string name) => Find(name) is not null;

    /// <summary>Fields without which nothing can be done.</summary>
    public void Require(params ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            if (!Has(name))
            {
                faults.Add(PathOf(name), "is required");
            }
        }
    }

    public string? Text(string name, int maxLength = 1024, Func<string, bool>? accept = null, string? rule = null)
    {
        rule ??= $"must be a string of at most {maxLength} characters";
        if (Find(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind == JsonValueKind.String && value.GetString()! is { } text && text.Length <= maxLength && accept?.Invoke(text) != false)
        {
            return text;
        }

        faults.Add(PathOf(name), rule + Was(value));
        return null;
    }

    public int? Integer(string name, int min, int max, int step = 1)
    {
        if (Find(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var number) && double.IsInteger(number)
            && number >= min && number <= max && (long)number % step == 0)
        {
            return (int)number;
        }

        var rule = $"must be an integer from {min} to {max}{(step == 1 ? "" : $", a multiple of {step}")}";
        faults.Add(PathOf(name), rule + Was(value));
        return null;
    }

    /// <summary>A number in steps that binary fractions cannot hold exactly; the nearest step is given back.</summary>
    public double? Steps(string name, double min, double max, int stepsPerUnit)
    {
        if (Find(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var number) && number >= min - 1e-9 && number <= max + 1e-9
            && Math.Abs((number * stepsPerUnit) - Math.Round(number * stepsPerUnit)) < 1e-6)
        {
            return Math.Round(number * stepsPerUnit) / stepsPerUnit;
        }

        var rule = string.Create(CultureInfo.InvariantCulture, $"must be a number from {min} to {max}, a multiple of {1.0 / stepsPerUnit}");
        faults.Add(PathOf(name), rule + Was(value));
        return null;
    }

    public bool? Flag(string name)
    {
        if (Find(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind is JsonValueKind.True or JsonValueKind.False)
        {
            return value.GetBoolean();
        }

        faults.Add(PathOf(name), "must be true or false" + Was(value));
        return null;
    }

    public JsonFields? Object(string name)
    {
        if (Find(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind == JsonValueKind.Object)
        {
            return new JsonFields(value, faults, PathOf(name) + ".");
        }

        faults.Add(PathOf(name), "must be an object" + Was(value));
        return null;
    }

    /// <summary>Strings of at most <paramref name="maxBytes"/> characters together.</summary>
    public IReadOnlyList<string>? Texts(string name, int maxItems, int maxBytes)
    {
        if (Find(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind == JsonValueKind.Array && value.GetArrayLength() <= maxItems
            && value.EnumerateArray().All(item => item.ValueKind == JsonValueKind.String))
        {
            List<string> texts = [.. value.EnumerateArray().Select(item => item.GetString()!)];
            if (texts.Sum(text => text.Length) <= maxBytes)
            {
                return texts;
            }
        }

        faults.Add(PathOf(name), $"must be an array of at most {maxItems} strings with {maxBytes} characters together" + Was(value));
        return null;
    }

    public IReadOnlyDictionary<string, string>? Map(string name)
    {
        if (Find(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind == JsonValueKind.Object && value.EnumerateObject().All(property => property.Value.ValueKind == JsonValueKind.String))
        {
            return value.EnumerateObject().ToDictionary(property => property.Name, property => property.Value.GetString()!, StringComparer.Ordinal);
        }

        faults.Add(PathOf(name), "must be an object whose values are strings" + Was(value));
        return null;
    }

    /// <summary>An object whose values are numbers of a range.</summary>
    public IReadOnlyDictionary<string, double>? Numbers(string name, double min, double max, int maxItems)
    {
        if (Find(name) is not { } value)
        {
            return null;
        }

        var numbers = new Dictionary<string, double>(StringComparer.Ordinal);
        if (value.ValueKind == JsonValueKind.Object)
        {
            foreach (var property in value.EnumerateObject())
            {
                if (property.Value.ValueKind == JsonValueKind.Number && property.Value.TryGetDouble(out var number) && number >= min && number <= max)
                {
                    numbers[property.Name] = number;
                }
                else
                {
                    faults.Add($"{PathOf(name)}.{Names.Shown(property.Name)}", string.Create(CultureInfo.InvariantCulture, $"must be a number from {min} to {max}") + Was(property.Value));
                }
            }

            if (numbers.Count <= maxItems)
            {
                return numbers;
            }
        }

        faults.Add(PathOf(name), $"must be an object of at most {maxItems} numbers" + Was(value));
        return null;
    }

    /// <summary>The elements of an array of objects.</summary>
    public IReadOnlyList<JsonFields>? Objects(string name, int maxItems)
    {
        if (Find(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind == JsonValueKind.Array && value.GetArrayLength() <= maxItems
            && value.EnumerateArray().All(item => item.ValueKind == JsonValueKind.Object))
        {
            return [.. value.EnumerateArray().Select((item, index) => new JsonFields(item, faults, $"{PathOf(name)}[{index}]."))];
        }

        faults.Add(PathOf(name), $"must be an array of at most {maxItems} objects" + Was(value));
        return null;
    }

    /// <summary>The field's JSON text as it came, if it is of the kind that clients can read back.</summary>
    public string? Raw(string name, JsonValueKind kind)
    {
        if (Find(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind == kind)
        {
            return value.GetRawText();
        }

        var rule = kind switch
        {
            JsonValueKind.String => "must be a string",
            JsonValueKind.Array => "must be an array",
            _ => "must be an object",
        };
        faults.Add(PathOf(name), rule + Was(value));
        return null;
    }

    /// <summary>The same fields, with faults told elsewhere.</summary>
    public JsonFields WithFaults(Faults others) => new(element, others, path);

    private JsonElement? Find(string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind is not (JsonValueKind.Null or JsonValueKind.Undefined) ? value : null;

    private static string Was(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => ", was an object",
        JsonValueKind.Array => $", was an array of {value.GetArrayLength()}",
        JsonValueKind.String => $", was '{Names.Shown(value.GetString()!)}'",
        _ => $", was {Names.Shown(value.GetRawText())}",
    };
}
