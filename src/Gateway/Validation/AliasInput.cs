using System.Text.Json;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;

namespace GpuTasks.Gateway.Validation;

/// <summary>Reads and checks what CreateAlias and UpdateAlias are given (contract 1.2). Pure.</summary>
internal static class AliasInput
{
    private const string NameRule = Names.FunctionRule + ", and not LATEST";

    /// <summary>A new alias with its name.</summary>
    public static (string Name, FunctionAlias Alias) Create(JsonElement body, FunctionSnapshot function)
    {
        var faults = new Faults();
        var fields = new JsonFields(body, faults);
        var name = fields.Text("aliasName", 128, text => Names.IsName(text) && text != Names.Latest, NameRule);
        fields.Require("aliasName", "versionId");

        var alias = Merge(fields, new FunctionAlias { VersionId = "" });
        faults.Throw();
        Check(alias, function);
        return (name!, alias);
    }

    /// <summary>An alias with the named fields changed.</summary>
    public static FunctionAlias Update(JsonElement body, FunctionAlias now, FunctionSnapshot function)
    {
        var faults = new Faults();
        var alias = Merge(new JsonFields(body, faults), now);
        faults.Throw();
        Check(alias, function);
        return alias;
    }

    private static FunctionAlias Merge(JsonFields fields, FunctionAlias now)
    {
        var weights = fields.Numbers("additionalVersionWeight", 0, 1, maxItems: 10);
        if (weights?.Values.Sum() > 1 + 1e-9)
        {
            fields.Faults.Add(fields.PathOf("additionalVersionWeight"), "weights must add up to at most 1");
        }

        return now with
        {
            VersionId = fields.Text("versionId", 16) ?? now.VersionId,
            Description = fields.Text("description", 256) ?? now.Description,
            AdditionalWeights = weights ?? now.AdditionalWeights,
        };
    }

    private static void Check(FunctionAlias alias, FunctionSnapshot function)
    {
        foreach (var version in alias.AdditionalWeights.Keys.Prepend(alias.VersionId))
        {
            if (function.Versions.All(published => published.VersionId != version))
            {
                throw ApiErrors.VersionNotFound(version);
            }
        }

        if (alias.AdditionalWeights.ContainsKey(alias.VersionId))
        {
            throw ApiErrors.InvalidArgument("additionalVersionWeight: must not name versionId itself, which gets what the weights leave over.");
        }
    }
}
