using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>TagResources, UntagResources, ListTagResources. Only functions have tags; field names are capitalised here alone.</summary>
internal static class TagEndpoints
{
    private const int MaxResources = 50;
    private const int DefaultPage = 50;

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapApi("POST", "/tags-v2", TagAsync);
        api.MapApi("DELETE", "/tags-v2", UntagAsync);
        api.MapApi("GET", "/tags-v2", ListAsync);
    }

    private static async Task TagAsync(ApiCall call)
    {
        using var body = call.JsonBody();
        var faults = new Faults();
        var fields = new JsonFields(body.RootElement, faults);
        fields.Require("ResourceId", "ResourceType", "Tag");

        var type = fields.Text("ResourceType", 128);
        var arns = fields.Texts("ResourceId", MaxResources, 65_536) ?? [];
        var tags = TagInput.Read(fields, "Tag") ?? [];
        faults.Throw();
        CheckType(type);
        await ChangeAsync(call, arns, now => TagInput.CheckCount(new Dictionary<string, string>(now.Concat(tags)
            .GroupBy(tag => tag.Key, StringComparer.Ordinal)
            .Select(tag => KeyValuePair.Create(tag.Key, tag.Last().Value)))));
    }

    private static async Task UntagAsync(ApiCall call)
    {
        var arns = call.Query.Texts("ResourceId", MaxResources) ?? throw ApiErrors.InvalidArgument("ResourceId: is required.");
        var keys = call.Query.Texts("TagKey", TagInput.MaxTags) ?? [];
        var all = call.Query.Flag("All") ?? false;
        CheckType(call.Query.Text("ResourceType"));
        if (keys.Count == 0 && !all)
        {
            throw ApiErrors.InvalidArgument("TagKey: is required unless All is true.");
        }

        await ChangeAsync(call, arns, now => new Dictionary<string, string>(now.Where(tag => keys.Count > 0 && !keys.Contains(tag.Key))));
    }

    private static async Task ListAsync(ApiCall call)
    {
        CheckType(call.Query.Text("ResourceType"));
        var arns = call.Query.Texts("ResourceId", MaxResources);
        var filter = TagInput.ReadFilter(call.Query.Text("Tag", 4096), "Tag");
        var limit = (int)(call.Query.Integer("Limit", 1, 200) ?? DefaultPage);
        var (afterFunction, afterKey) = call.Query.PageAfterPart("NextToken");
        var found = new List<(FunctionSnapshot Function, string Key)>();
        if (arns is not null)
        {
            foreach (var name in arns.Select(arn => NameOf(call, arn)).Distinct().Order(StringComparer.Ordinal))
            {
                Add(await call.NeedFunctionAsync(name));
            }
        }
        else
        {
            var after = afterFunction;
            if (afterFunction is not null)
            {
                Add(await call.FunctionGrain(afterFunction).Get(call.Aborted));
            }

            do
            {
                var (functions, next) = await FunctionPages.ReadAsync(call, "", after, 100, Fits);
                functions.ToList().ForEach(Add);
                after = next;
            }
            while (after is not null && found.Count <= limit);
        }

        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("TagResources");
            foreach (var (function, key) in found.Take(limit))
            {
                json.WriteStartObject();
                json.WriteString("ResourceId", Arn.Function(call.Options, function.Account, function.Spec.Name));
                json.WriteString("ResourceType", "function");
                json.WriteString("TagKey", key);
                json.WriteString("TagValue", function.Spec.Tags[key]);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            if (found.Count > limit)
            {
                json.WriteString("NextToken", PageToken.Make($"{found[limit - 1].Function.Spec.Name}/{found[limit - 1].Key}"));
            }

            json.WriteString("RequestId", call.RequestId);
            json.WriteEndObject();
        });

        bool Fits(FunctionSnapshot function) => function.Spec.Tags.Count > 0
            && filter.All(tag => function.Spec.Tags.TryGetValue(tag.Key, out var value) && (tag.Value is null || tag.Value == value));

        void Add(FunctionSnapshot? function)
        {
            if (function is null || !Fits(function) || (afterFunction is not null && string.CompareOrdinal(function.Spec.Name, afterFunction) < 0))
            {
                return;
            }

            found.AddRange(function.Spec.Tags.Keys
                .Where(key => function.Spec.Name != afterFunction || string.CompareOrdinal(key, afterKey) > 0)
                .Order(StringComparer.Ordinal)
                .Select(key => (function, key)));
        }
    }

    /// <summary>Changes each function's tags; all of them must exist before the first is changed.</summary>
    private static async Task ChangeAsync(ApiCall call, IReadOnlyList<string> arns, Func<IReadOnlyDictionary<string, string>, IReadOnlyDictionary<string, string>> change)
    {
        var names = arns.Select(arn => NameOf(call, arn)).Distinct().ToList();
        if (names.Count == 0)
        {
            throw ApiErrors.InvalidArgument("ResourceId: must name at least one function.");
        }

        foreach (var name in names)
        {
            change((await call.NeedFunctionAsync(name)).Spec.Tags);
        }

        foreach (var name in names)
        {
            await FunctionEndpoints.ChangeAsync(call, name, (grain, now) => grain.SetTags(change(now.Spec.Tags), now.Revision, CancellationToken.None));
        }

        await call.NoContentAsync();
    }

    /// <summary>The caller's function that an ARN names. Another account's is as unknown as one that never was.</summary>
    private static string NameOf(ApiCall call, string text)
    {
        if (!FunctionArn.TryParse(text, out var arn) || !Names.IsName(arn.Function))
        {
            throw ApiErrors.InvalidArgument($"ResourceId: must be like acs:fc:{{region}}:{{account}}:functions/{{name}}, was '{Names.Shown(text)}'.");
        }

        return arn.Account.Length == 0 || arn.Account == call.Account ? arn.Function : throw ApiErrors.FunctionNotFound(arn.Function);
    }

    private static void CheckType(string? type)
    {
        if (type is null || !(type.Equals("function", StringComparison.OrdinalIgnoreCase) || type.Equals("ALIYUN::FC::FUNCTION", StringComparison.OrdinalIgnoreCase)))
        {
            throw ApiErrors.InvalidArgument($"ResourceType: must be function, was '{Names.Shown(type ?? "")}'.");
        }
    }
}
