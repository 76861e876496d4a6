using System.Text;
using GpuTasks.Gateway.Http;

namespace GpuTasks.Gateway.Validation;

/// <summary>Tags as functions and tag operations give them. Pure.</summary>
internal static class TagInput
{
    /// <summary>Most tags of one function.</summary>
    public const int MaxTags = 20;

    /// <summary>Tags of an array of <c>{Key, Value}</c>; lower-case names are read too, as deploy tools send them.</summary>
    public static Dictionary<string, string>? Read(JsonFields fields, string name)
    {
        if (fields.Objects(name, MaxTags) is not { } items)
        {
            return null;
        }

        var tags = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var item in items)
        {
            var key = item.Text(item.Has("key") ? "key" : "Key", 128, text => text.Length > 0, "must be a string of 1 to 128 characters");
            if (!item.Has("Key") && !item.Has("key"))
            {
                item.Faults.Add(item.PathOf("Key"), "is required");
            }
            else if (key is not null && !tags.TryAdd(key, item.Text(item.Has("value") ? "value" : "Value", 256) ?? ""))
            {
                item.Faults.Add(item.PathOf("Key"), $"'{Names.Shown(key)}' occurs twice");
            }
        }

        return tags;
    }

    /// <summary>Tags that a function may have together.</summary>
    public static IReadOnlyDictionary<string, string> CheckCount(IReadOnlyDictionary<string, string> tags) => tags.Count <= MaxTags
        ? tags
        : throw ApiErrors.LimitExceeded($"A function may have {MaxTags} tags, and would have {tags.Count}.");

    /// <summary>Tags that something must have; one without value fits every value.</summary>
    /// <param name="text">JSON text of a query parameter, or null.</param>
    /// <param name="name">The parameter.</param>
    public static IReadOnlyList<KeyValuePair<string, string?>> ReadFilter(string? text, string name)
    {
        if (text is null)
        {
            return [];
        }

        // Read through the same reader as bodies, so that nothing in it can surprise.
        using var document = JsonBody.Parse(Encoding.UTF8.GetBytes($"{{\"{name}\":{text}}}"));
        var faults = new Faults();
        var tags = new List<KeyValuePair<string, string?>>();
        foreach (var tag in new JsonFields(document.RootElement, faults).Objects(name, MaxTags) ?? [])
        {
            if ((tag.Text("Key", 128) ?? tag.Text("key", 128)) is { } key)
            {
                tags.Add(new(key, tag.Text("Value") ?? tag.Text("value")));
            }
            else
            {
                faults.Add(tag.PathOf("Key"), "is required");
            }
        }

        faults.Throw();
        return tags;
    }
}
