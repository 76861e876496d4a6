using System.Text.Json.Nodes;

namespace GpuTasks.Gateway.OpenApi;

/// <summary>One field of a structure.</summary>
internal sealed record SchemaField(string Name, string Type, bool Required, string Text);

/// <summary>One structure; <paramref name="Base"/> names one whose fields it has too.</summary>
internal sealed record Schema(string Name, string? Base, IReadOnlyList<SchemaField> Fields);

/// <summary>The structures of the interface, from <c>schemas.txt</c>.</summary>
internal static class Schemas
{
    public static readonly IReadOnlyDictionary<string, Schema> All = Read();

    /// <summary>All fields, those of its base first.</summary>
    public static IEnumerable<SchemaField> FieldsOf(string name)
    {
        var schema = All[name];
        return (schema.Base is null ? [] : FieldsOf(schema.Base)).Concat(schema.Fields);
    }

    public static JsonObject ToJson()
    {
        var schemas = new JsonObject();
        foreach (var schema in All.Values)
        {
            var properties = new JsonObject();
            foreach (var field in FieldsOf(schema.Name))
            {
                var property = TypeOf(field.Type);
                if (field.Text.Length > 0)
                {
                    // Beside a reference other members count since OpenAPI 3.1.
                    property["description"] = field.Text;
                }

                properties[field.Name] = property;
            }

            var json = new JsonObject { ["type"] = "object", ["properties"] = properties };
            if (FieldsOf(schema.Name).Where(field => field.Required).Select(field => (JsonNode)field.Name).ToArray() is { Length: > 0 } required)
            {
                json["required"] = new JsonArray(required);
            }

            schemas[schema.Name] = json;
        }

        return schemas;
    }

    public static JsonObject TypeOf(string type) => type switch
    {
        _ when type.EndsWith("[]", StringComparison.Ordinal) => new JsonObject { ["type"] = "array", ["items"] = TypeOf(type[..^2]) },
        "string" => new JsonObject { ["type"] = "string" },
        "int" => new JsonObject { ["type"] = "integer", ["format"] = "int64" },
        "number" => new JsonObject { ["type"] = "number" },
        "bool" => new JsonObject { ["type"] = "boolean" },
        "any" => [],
        "bytes" => new JsonObject { ["type"] = "string", ["format"] = "binary" },
        "map" => new JsonObject { ["type"] = "object", ["additionalProperties"] = new JsonObject { ["type"] = "string" } },
        _ => new JsonObject { ["$ref"] = $"#/components/schemas/{type}" },
    };

    private static Dictionary<string, Schema> Read()
    {
        using var stream = typeof(Schemas).Assembly.GetManifestResourceStream("schemas.txt")!;
        using var reader = new StreamReader(stream);
        var schemas = new Dictionary<string, Schema>(StringComparer.Ordinal);
        foreach (var paragraph in reader.ReadToEnd().ReplaceLineEndings("\n").Split("\n\n", StringSplitOptions.RemoveEmptyEntries))
        {
            var lines = paragraph.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => !line.StartsWith('#')).ToList();
            if (lines.Count == 0)
            {
                continue;
            }

            var head = lines[0].Split(" : ", 2);
            schemas[head[0]] = new Schema(head[0], head.ElementAtOrDefault(1), [.. lines.Skip(1).Select(line =>
            {
                var parts = line.Split(' ', 3);
                return new SchemaField(parts[0].TrimEnd('!'), parts[1], parts[0].EndsWith('!'), parts.ElementAtOrDefault(2) ?? "");
            })]);
        }

        return schemas;
    }
}
